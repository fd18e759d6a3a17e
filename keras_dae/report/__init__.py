"""What people read: text, pictures and the model card."""
