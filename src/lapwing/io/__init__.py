"""Moving bytes: sockets, TLS, readiness. Nothing in here knows a WebSocket frame."""
