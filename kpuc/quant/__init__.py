"""Quantisation: real-valued graphs to graphs of codes, calibrated, refined and measured."""
