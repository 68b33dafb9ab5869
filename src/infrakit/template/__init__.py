"""Documents from elsewhere: `loaders` fetches them by address, for everybody."""
