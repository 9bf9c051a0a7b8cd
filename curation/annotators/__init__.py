"""The annotator model: reliability, position bias and tie tendency of annotators, and each pair's consensus."""
