"""The exercises of each chapter: modules `chapter_01` to `chapter_10`, found by `aigc_lib.teaching.exercises`."""
