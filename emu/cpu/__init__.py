"""One processing element on one Unicorn instance."""
