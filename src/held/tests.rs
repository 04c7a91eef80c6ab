//! Images of a holder that says what a test tells it to.
