"""``python -m secateur``: the command line."""

from secateur.app import main

if __name__ == "__main__":
    main()
