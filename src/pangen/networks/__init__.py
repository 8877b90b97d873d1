"""Neural networks by role: encode, decode, denoise, causal, critic."""
