"""`edgefel serve`: a page, REST and a WebSocket over the runtime. Needs the extra `serve`."""
