"""orchestra service install, orchestra service uninstall"""
