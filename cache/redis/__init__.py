"""States in Redis or Valkey: one store over a server, sentinels or a cluster."""
