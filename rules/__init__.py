"""What is known about architectures, tasks and devices, and how it is judged. No torch, no numpy."""
