"""`mfalcon bench`: what is measured, the contenders, and the pictures."""
