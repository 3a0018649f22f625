//! Hostile ends: a client that spends what is not its own, and a server that asks for more than was agreed.
