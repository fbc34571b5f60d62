"""Design-space exploration: one network on many machines, what each costs, and which are best."""
