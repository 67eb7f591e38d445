"""The commands, a module each: they parse, call one library function, and render what it returns."""
