"""Sample models, photos and the benchmark: what the toolchain is demonstrated and measured on."""
