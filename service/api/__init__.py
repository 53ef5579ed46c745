"""HTTP: middleware, routes and problem+json. Never decides anything about ranking."""
