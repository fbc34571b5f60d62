"""Passes of the compiler: each a pure function Graph -> Graph in a file of its own."""
