"""Pictures: their order, shape, orientation and colour."""
