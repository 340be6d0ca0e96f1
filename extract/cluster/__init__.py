"""Many runs at once, on one host or many: who does what."""
