from run_folders import nothing_published, real_run, run_folder, search_folder, trials_table, written_search  # noqa: F401
