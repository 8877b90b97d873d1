"""The families of generative models: one paper, one file."""
