"""The second clock: commands played on the machine's resources, with power and traces."""
