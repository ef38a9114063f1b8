"""The system itself: what Linux does with PCI devices, IOMMUs and the user who drives them."""
