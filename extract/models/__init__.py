"""Which encoder a request means, where its weights are, and how pictures and prompts go through it."""
