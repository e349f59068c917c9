"""What every room needs: errors, files, processes, progress, addresses, COCO records."""
