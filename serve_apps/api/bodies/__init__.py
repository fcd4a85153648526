"""Bodies of requests and answers, beside those of renders."""
