"""What computes a student's replies and log-likelihoods: transformers in this process, or vLLM in one of its own."""
