"""Policies: those that learn (selfteach.policy, selfteach.trpo), the controls beside them, their names, and how one is made."""
