"""What all factored layers share: their contract, putting them in place, row-wise AdamW, files."""
