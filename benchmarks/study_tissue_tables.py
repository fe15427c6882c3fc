"""Write the tables and figures of docs/study_tissues.md from the figures in benchmarks/results/.

python benchmarks/study_tissue_tables.py
"""

from _study_tissue_tables import draw, pages


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)
        print(f"wrote {path}")
    draw()


if __name__ == "__main__":
    main()
