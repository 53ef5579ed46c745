"""The HSTU network, its training and its serving engine. Knows tensors only.

Owns everything between item indices and scores. Never imports cache, service, redis or fastapi.

Shapes, everywhere in this package:

    B  users in a padded batch          T  rows packed over users (jagged)
    L  rows of one padded sequence      N  events in one user's window
    M  candidates in a microbatch       F  final event rows of a user state (N - 1, or 0)
    D  model width                      H  heads; G = 1 or H, the heads a bias is kept for
    K  query/key width per head         V  value width per head
"""
