"""Lightning callbacks: the pruning schedule of stage I and the observers of the search, one class a file."""
