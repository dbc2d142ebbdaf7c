"""Base models made of any ``nn.Module``: how it is fed, where its states are read, and whether one map is iterated."""
