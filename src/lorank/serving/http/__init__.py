"""The HTTP side of the server: routes, middleware, and the process."""
