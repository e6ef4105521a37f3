"""The published self-instruct RL (TeaMs-RL, arXiv 2403.08694) as its code has it, with every doubtful choice switchable by itself."""
