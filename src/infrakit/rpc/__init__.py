"""JSON-RPC 2.0 over HTTP on unix sockets, wire-compatible with the original InfraKit."""
