"""How the model in `demo.npz` was made: its training and its evaluation, from the checkout only (not in the wheel)."""
