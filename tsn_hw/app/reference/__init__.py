"""What the code says of itself: keys of files, options, errors, and the pages of the site that are made of them."""
