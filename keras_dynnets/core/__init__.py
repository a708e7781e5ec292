"""What everything else stands on: graphs, costs and the interfaces between the other packages."""
