"""Speed and cost of the real parts, each as a ratio against a peer, side by side in one run."""
