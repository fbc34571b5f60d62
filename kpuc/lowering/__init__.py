"""How ATen ops become native ops: one module per family, each with its rows of the table."""
