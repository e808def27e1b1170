"""The models in memory and the threads that own them."""
