"""The proof by breaking things: real servers, a writer, many clients, a nemesis, a checker."""
