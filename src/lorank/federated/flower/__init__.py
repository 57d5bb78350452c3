"""A federation over a network, by Flower's gRPC server and clients; messages are safetensors files."""
