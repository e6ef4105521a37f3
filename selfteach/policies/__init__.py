"""Policies: those that learn (selfteach.policy, selfteach.trpo) and the controls beside them; names (names), how one is made (make)."""
