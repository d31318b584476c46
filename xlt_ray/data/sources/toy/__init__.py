"""The toy world: six generated languages, what they say, and the tasks made of it."""
