"""the HDF5 store of features: schema, key, read, write, verify."""
