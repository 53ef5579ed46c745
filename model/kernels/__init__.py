"""How rows go through the layers: paged K and V, and the stacks that read them where they are."""
