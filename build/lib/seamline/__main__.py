"""`python -m seamline`: where the package is on the path, and its command is not, as in the GPU's image."""

from seamline.cli import main

if __name__ == "__main__":
    main()
