"""HTTP and orchestration; the only place where model and cache meet."""
