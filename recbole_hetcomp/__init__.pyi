from recbole_hetcomp.config import Config as Config
from recbole_hetcomp.config.errors import UserError as UserError
from recbole_hetcomp.config.registry import get_model as get_model
from recbole_hetcomp.quick_start import EntityVectors as EntityVectors
from recbole_hetcomp.quick_start import find_anomalies as find_anomalies
from recbole_hetcomp.quick_start import load_student as load_student
from recbole_hetcomp.quick_start import objective_function as objective_function
from recbole_hetcomp.quick_start import recommend as recommend
from recbole_hetcomp.quick_start import run_benchmark as run_benchmark
from recbole_hetcomp.quick_start import run_hetcomp as run_hetcomp
from recbole_hetcomp.quick_start import search_student as search_student
from recbole_hetcomp.quick_start import tune_teachers as tune_teachers
from recbole_hetcomp.quick_start import write_vectors as write_vectors
from recbole_hetcomp.report import write_report as write_report
from recbole_hetcomp.teachers import Teacher as Teacher
from recbole_hetcomp.teachers import TeacherPool as TeacherPool
from recbole_hetcomp.teachers import Trajectory as Trajectory

__version__: str
