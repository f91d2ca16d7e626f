// Copied by a test, which points the module at the working tree.
module example.com/consumer

go 1.26.0
