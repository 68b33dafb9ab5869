"""The one way to every call that changes infrastructure: who may make it, and whether it is still wanted."""
